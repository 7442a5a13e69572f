"""What everything else stands on: exact random draws, site masks, information measures, atomic files."""
