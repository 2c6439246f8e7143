#!/bin/sh
# Builds libbiv into /opt/biv, with its libtorch, in an image of Debian that has Rust: what apptainer.def and Containerfile
# both run in the folder of the checkout. CUDA=1: also for NVIDIA GPUs.
set -eu
apt-get update
apt-get install -y --no-install-recommends g++ make python3 python3-pip
if [ "${CUDA:-0}" = 1 ]; then
  make libtorch CUDA=1
  make cuda
fi
make install PREFIX=/opt/biv
# The library looks for libtorch beside itself first.
mkdir -p /opt/biv/lib/biv/torch
cp -r .libtorch/torch/lib /opt/biv/lib/biv/torch/lib
cp -r .libtorch/nvidia /opt/biv/lib/biv/nvidia
