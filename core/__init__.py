"""The lowest layer: data types, errors, result files and sample packs. Imports nothing else of ours."""
