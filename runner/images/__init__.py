"""The images that runs' containers are started from: built by a Docker engine, named by content.

    definition.py  the folder of an image and the runner's own source, read from disk
    choice.py      which images are meant, and how `--name` and `--add` change them
    wheel.py       the runner's source as a wheel (pure)
    context.py     what the engine is sent, and the hash of it (pure)
    engine.py      the Docker engine: connecting, its stream, errors in our words
    asking.py      one command in a container of an image
    probe.py       what a base image has, and whether it will do
    build.py       build what is not there already
    facts.py       what an image has, asked of the image itself
    labels.py      what an image says of itself (pure)
    local.py       the images that an engine has: its own catalogue
    current.py     whether they are of the runner that uses them
    fit.py         which of a catalogue an experiment gets, and why none will do (pure)
    installing.py  what has to be installed beside what an image has
    push.py        push to a registry, and resolve digests
    catalogue.py   what a cluster's chart is told about the images (pure)

A tag is a hash of the Dockerfile, the locks, the base image and the runner's source: the
same content is never built twice, and another one never gets the same tag.
"""
