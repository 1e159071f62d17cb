#!/usr/bin/env bash
# xinetd's own echo service, at the port that is given. It closes what it inherits, so its
# configuration is a file, which is removed once the port answers.
configuration=$(mktemp)
cat >"$configuration" <<END
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
(
    until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.01; done
    rm "$configuration"
) &
exec xinetd -dontfork -f "$configuration"
