"""Melodies: data sets and MIDI files as input; MIDI files, pictures and sound as output."""
