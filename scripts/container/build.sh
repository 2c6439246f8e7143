#!/bin/sh
# Builds libbiv into /opt/biv, with its libtorch and the licences of both, in an image of Debian that has Rust: what
# apptainer.def and Containerfile both run in the folder of the checkout. CUDA=1: also for NVIDIA GPUs.
set -eu
apt-get update
apt-get install -y --no-install-recommends g++ make python3 python3-pip
make libtorch
if [ "${CUDA:-0}" = 1 ]; then make cuda; fi
# The folder of the tarball runs wherever it is.
make dist
mv build/dist/* /opt/biv
