# shellcheck shell=bash
# Source this in every shell that talks to a cluster of yours: sees to it that there is a token for its
# owner alone, and that Ray asks for it. The token is never printed; Ray reads the file by itself.
export RAY_AUTH_MODE=token
token_file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ -z "${RAY_AUTH_TOKEN:-}" ]; then
  (
    umask 077 # what is made here is 0600, its folder 0700
    mkdir -p "$(dirname "$token_file")"
    # noclobber: of two first starts at once, one makes the file
    [ -s "$token_file" ] || { set -o noclobber; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$token_file"; } 2>/dev/null
    chmod 600 "$token_file" # `ray get-auth-token --generate` makes it 0644
  )
fi
unset token_file
