"""Who is known: encodings of people's faces in one file, and the search among them."""
