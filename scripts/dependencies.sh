# What ds4 needs from the system. Sourced by scripts/demo and scripts/test; docs/DEPENDENCIES.md says why each.

build_packages=(
  ca-certificates cmake g++ ninja-build pkg-config
  libhwy-dev libpcre2-dev nlohmann-json3-dev libcli11-dev libedit-dev
  libboost-dev libspdlog-dev prometheus-cpp-dev libssl-dev libxxhash-dev
)
test_packages=(libgtest-dev libgmock-dev clang libclang-rt-dev lld nodejs chromium)

# install_npm: Debian's nodejs has no npm, some other packages of it do.
install_npm() {
  if ! command -v npm >/dev/null; then install_packages npm; fi
}

# install_packages NAME...: installs what is missing; on systems without apt prints the list and stops.
install_packages() {
  local missing=()
  local package
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    if [ "${DS4_DEPENDENCIES_PRESENT:-}" = 1 ]; then return; fi
    {
      echo "This is not a Debian system, so nothing was installed. ds4 needs these (Debian's names):"
      echo "  $*"
      echo "Install them and run: DS4_DEPENDENCIES_PRESENT=1 $0"
    } >&2
    exit 1
  fi
  for package in "$@"; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing+=("$package")
    fi
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "ds4 needs these packages, and there is no sudo to install them with:" >&2
      echo "  apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}
