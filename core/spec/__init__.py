"""What is asked: the models of a job and of its parts, and the vocabulary that all rooms share.

Torch-free and free of other rooms: anything here may be imported by anybody.
"""
