"""What several test folders need: small real models, made on the spot."""
