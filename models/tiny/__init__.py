"""The embedded tiny PaliGemma and the scripts that make it."""
