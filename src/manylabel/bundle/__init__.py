"""Bundle: one folder with everything that an answer needs, read without torch and without pickle."""
