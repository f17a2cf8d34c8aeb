"""A small server that shows volumes in a browser: neuroglancer's client, and voxels for it.

``sources`` are what is shown, ``arrays`` hands their voxels out as Zarr arrays, ``state`` says how
the client shows them, ``scene`` puts the layers of a subject together, and ``server`` answers
requests. ``voxquarry.view`` is the face.
"""
