#!/usr/bin/env bash
# One study as a Ray job. `raymcu submit SPACE --to ray --out DIR` fills the marked lines and runs it.
set -euo pipefail
address="http://127.0.0.1:8265" # <- address
name="demo" # <- name
working_dir="." # <- working_dir
command=(raymcu run search_spaces/demo.toml --out "$HOME/runs/demo") # <- command

export RAY_AUTH_MODE=token # the token itself: RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token
# An id can be used once: a resumed study is a new job, with the same run folder.
id="$name-$(date -u +%Y%m%d-%H%M%S)"
# The working directory is uploaded, without what .gitignore and .rayignore there name: 100 MB at most.
exec ray job submit --address "$address" --submission-id "$id" --no-wait \
  --metadata-json "{\"job_name\": \"raymcu $name\"}" --working-dir "$working_dir" -- "${command[@]}"
