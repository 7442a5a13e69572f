"""Melodies: MIDI files in, MIDI files, pictures and sound out."""
