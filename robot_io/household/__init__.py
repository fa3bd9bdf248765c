"""A small household in the manner of VirtualHome: rooms, furniture, things, skills with preconditions, goals, an expert, pictures.

No torch and no simulator. `world.World` is where it is put together.
"""
