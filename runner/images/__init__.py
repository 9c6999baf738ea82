"""The images that runs' containers are started from: built by a Docker engine, named by content.

    definition.py  the folder of an image and the runner's own source, read from disk
    wheel.py       the runner's source as a wheel (pure)
    context.py     what the engine is sent, and the hash of it (pure)
    engine.py      the Docker engine: connecting, its stream, errors in our words
    build.py       build what is not there already
    push.py        push to a registry, and resolve digests
    facts.py       what an image's Python has, asked of the image itself
    catalogue.py   what a cluster's chart is told about the images (pure)

A tag is a hash of the Dockerfile, the locks, the base image and the runner's source: the
same content is never built twice, and another one never gets the same tag.
"""
