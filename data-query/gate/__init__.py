"""Proves that weather_data is complete and right."""
