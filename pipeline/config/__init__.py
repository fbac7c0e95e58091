"""The configuration: typed settings, loaded from a file and options, with errors that show the place.

settings.py   every key, its type, its default and a sentence about it; checks across keys
values.py     the kinds of values
load.py       defaults, then a file, then options
positions.py  YAML text -> plain values and where each stands
problems.py   where settings come from, and how a mistake is shown
reasons.py    what is wrong, in words, with the nearest valid key or value
keys.py       walking over keys
"""
