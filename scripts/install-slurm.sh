#!/usr/bin/env bash
# Install Debian's Slurm for `make test-scale`, where it is missing and can be: as root, with apt. The tests start daemons
# of their own, and leave those of the system alone. Elsewhere the tests say what they lack.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
wanted="slurmctld slurmd slurm-client munge"
if command -v slurmctld slurmd sbatch munged > /dev/null || [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    exit 0
fi
echo "Installing $wanted (about 50 MB)."
apt-get update -qq
# shellcheck disable=SC2086  # several names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted > /dev/null
