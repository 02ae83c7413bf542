#!/usr/bin/env bash
# Several raylets on one machine, to see how a study behaves on a cluster. Ctrl-C ends them, and only them.
#
#   cluster/local/raylets.sh              # a head and one worker, 1 CPU each
#   cluster/local/raylets.sh 3 2          # a head and two workers, 2 CPUs each
#   GPUS=1 cluster/local/raylets.sh 4 8   # 4 nodes with 8 CPUs; each is told that it has a GPU, by number
#
# Then, in another shell with the same environment:
#
#   source cluster/local/token.sh
#   RAY_ADDRESS=127.0.0.1:6379 raymcu run search_spaces/demo.toml --out "$PWD/runs/demo"
#
# PORT (6379) and DASHBOARD_PORT (8265) may be set.
set -euo pipefail
nodes=${1:-2} cpus=${2:-1} gpus=${GPUS:-0}
port=${PORT:-6379} dashboard_port=${DASHBOARD_PORT:-8265}
# Jobs find `python` and `raymcu` on the PATH of whoever starts Ray.
command -v raymcu >/dev/null || { echo "raymcu is not on PATH: activate its environment first." >&2; exit 1; }
# shellcheck source=cluster/local/token.sh
source "$(dirname "${BASH_SOURCE[0]}")/token.sh"

export RAY_JOB_STOP_WAIT_TIME_S="${RAY_JOB_STOP_WAIT_TIME_S:-60}" # Ray's own 3 s are too few to save in

started=()
end() {
  trap - EXIT INT TERM
  # The last that came goes first; each ends its own processes.
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do kill -TERM "${started[i]}" 2>/dev/null || true; done
  wait
}
trap end EXIT
trap 'exit 130' INT TERM

ray start --head --block --node-ip-address=127.0.0.1 --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" \
  --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" --disable-usage-stats &
started+=($!)
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "${started[0]}" 2>/dev/null || { echo "The head did not start; is port $port free?" >&2; exit 1; }
  sleep 1
done
sleep 5 # its own node must be known before others come
for ((node = 1; node < nodes; node++)); do
  # On a machine with GPUs each raylet is given its own: otherwise all of them would count all.
  if [ "$gpus" -gt 0 ]; then
    CUDA_VISIBLE_DEVICES=$(seq -s, $((node * gpus)) $((node * gpus + gpus - 1)))
    export CUDA_VISIBLE_DEVICES
  fi
  ray start --block --address="127.0.0.1:$port" --node-ip-address=127.0.0.1 --num-cpus="$cpus" --num-gpus="$gpus" \
    --dashboard-agent-listen-port=$((52365 + node)) --disable-usage-stats &
  started+=($!)
done
echo "$nodes nodes at 127.0.0.1:$port, Ray's dashboard at http://127.0.0.1:$dashboard_port. Ctrl-C ends them."
wait -n # if one ends, all end
