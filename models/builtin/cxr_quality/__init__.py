"""How good a chest radiograph is as an image: view, field, exposure, greys, sharpness. No diagnosis."""
