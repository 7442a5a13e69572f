"""The report: one HTML page of results, with its charts drawn as inline SVG."""
