"""The lowest layer: data types, errors, result files and sample packs. Imports numpy and pydantic, nothing else of ours."""
