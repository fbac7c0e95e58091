"""`frameloom engines`: build compiled engines, compare them with their model files, list them, clean them up."""
