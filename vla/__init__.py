"""Policies composed of perception, backbone and head: recipes, training, evaluation, serving, the command line."""
