"""Zones: what enters, leaves, stays in, crosses, and how fast it is.

geometry.py   points in areas, paths across lines
ground.py     from the picture to metres on the ground; speeds there
tracks.py     the tracked objects of a source, each with a place in the arrays
held.py       a state that only what lasts can change
area.py       who is inside an area, for how long
crossing.py   who has crossed a line, and which way
stage.py      all of that for each frame
"""
