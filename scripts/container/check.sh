#!/bin/sh
# Trains for one epoch with the biv in /opt/biv, as a test of an image.
set -eu
folder=$(mktemp -d)
/opt/biv/bin/biv run --experiment_settings="test,1,synthetic,True,500" --model_settings="vanilla_ann,biv,0.5" \
  --noise_settings="True,uniform" --params_settings="boundaries" --parameters="0,1" \
  --epochs 1 --device cpu --out "$folder/run"
test -s "$folder/run/result.json"
rm -r "$folder"
