#!/bin/sh
# Pins the images that others publish, in Dockerfile and compose.yaml: behind each tag comes the digest that the tag has
# now, so that every later build and start gets the same bytes. Run again, it renews the digests.
#
#     deploy/pin-images.sh          in a checkout; asks the registries through skopeo (apt install skopeo)
set -eu
cd "$(dirname "$0")"
for file in ../Dockerfile compose.yaml; do
    sed -n -E 's/^(ARG PYTHON_IMAGE=| +image: )([^@ ]+:[^@ ]+)(@.*)?$/\2/p' "$file" | while read -r image; do
        digest=$(skopeo inspect --format '{{.Digest}}' "docker://$image")
        sed -i -E "s|^(ARG PYTHON_IMAGE=\| +image: )$image(@.*)?\$|\1$image@$digest|" "$file"
        echo "$file: $image@$digest"
    done
done
