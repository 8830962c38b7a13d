#!/bin/sh
# Run by the image's entrypoint before nginx starts. /tmp is the only place it can write to.
exec /etc/nginx/weather/configure.sh /tmp/nginx
