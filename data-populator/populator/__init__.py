"""Loads weather_data, exactly once."""
