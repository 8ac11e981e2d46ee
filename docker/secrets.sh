#!/bin/sh
# Random passwords for compose.yaml, once: files that only their owner and the containers' user can read.
set -eu
cd "$(dirname "$0")"
[ -e secrets ] && { echo "docker/secrets is already there: nothing was changed"; exit 0; }
umask 077
mkdir secrets
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
ledger=$(random); queue=$(random); archive=$(random)
printf '%s' "$ledger" >secrets/ledger_password
printf '%s' "$queue" >secrets/queue_password
printf 'postgresql+pg8000://wetread:%s@postgresql:5432/wetread' "$ledger" >secrets/ledger_url
printf 'redis://:%s@redis:6379/0' "$queue" >secrets/queue_url
printf '{"RegisteredUsers": {"wetread": "%s"}}' "$archive" >secrets/orthanc.secret.json
# The console speaks TLS. Browsers will not know this certificate: put one of your hospital's in its place.
openssl req -x509 -newkey rsa:3072 -nodes -days 825 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout secrets/console_key.pem 2>/dev/null >secrets/console_certificate
cat secrets/console_key.pem >secrets/console_key && rm secrets/console_key.pem
# Compose mounts secret files as they are: the containers' users must be able to read them.
chmod 0444 secrets/*
chmod 0711 secrets
echo "Wrote docker/secrets. Orthanc's user is wetread, its password is in secrets/orthanc.secret.json."
