#!/usr/bin/env bash
# xinetd's own echo service, at the port that is given.
exec xinetd -dontfork -f <(
    cat <<END
defaults
{
    instances = UNLIMITED
    per_source = UNLIMITED
    cps = 1000000 1
}
service echo
{
    type = INTERNAL UNLISTED
    id = echo-stream
    socket_type = stream
    protocol = tcp
    user = root
    wait = no
    port = $1
    bind = 127.0.0.1
    flags = NODELAY
    disable = no
}
END
)
