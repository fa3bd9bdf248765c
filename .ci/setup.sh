#!/usr/bin/env bash
# Everything a bare Debian machine with Python 3.11 needs: system libraries, a virtual environment, the packages.
# Usage: .ci/setup.sh VENV_FOLDER. Run again at any time; what is there already is left alone.
set -euo pipefail
venv=${1:-.venv}
python=${PYTHON:-python3}

# library file -> Debian package: rendering (EGL, Mesa's software driver), Open3D (libGL, libusb, libgomp)
declare -A libraries=([libEGL.so.1]=libegl1 [libGL.so.1]=libgl1 [libOSMesa.so.8]=libosmesa6 [libusb-1.0.so.0]=libusb-1.0-0
  [libgomp.so.1]=libgomp1 [libGLX_mesa.so.0]=libglx-mesa0)
missing=()
known=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)
for library in "${!libraries[@]}"; do
  grep -q "$library" <<<"$known" || missing+=("${libraries[$library]}")
done
ls /usr/lib/*/dri/swrast_dri.so >/dev/null 2>&1 || ls /usr/lib/*/libgallium*.so >/dev/null 2>&1 || missing+=(libgl1-mesa-dri)
ls /usr/share/glvnd/egl_vendor.d/*mesa*.json >/dev/null 2>&1 || missing+=(libegl-mesa0)
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]]; then
    echo "installing system libraries: ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "system libraries are missing. Run this once, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed, '$python' is $("$python" --version). Name another with: make PYTHON=python3.11 …" >&2
  exit 1
}
[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
echo "installing Python packages into $venv (the first time takes a few minutes)"
"$venv/bin/python" -m pip install -q torch==2.14.1 torchvision==0.29.1
"$venv/bin/python" -m pip install -q -e '.[sim,metaworld,pusht,train,serve,perception,dev]'
touch "$venv/.ready"
