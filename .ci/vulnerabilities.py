"""The known vulnerabilities of the installed packages, where their data can be reached."""

import json
import subprocess
import sys

OPTIONS = ("--skip-editable", "--format", "json", "--progress-spinner", "off")
result = subprocess.run(
    [sys.executable, "-m", "pip_audit", *OPTIONS], capture_output=True, text=True, check=False
)
try:
    packages = json.loads(result.stdout)["dependencies"]
except ValueError:  # no answer at all
    packages = []
known = [package for package in packages if "skip_reason" not in package]
found = [(p["name"], v["id"]) for p in known for v in p.get("vulns", ())]
sys.stdout.writelines(f"{name}: {number}\n" for name, number in found)
if known:
    sys.stdout.write(
        f"{len(found)} known vulnerabilities; {len(known)} of {len(packages)} packages "
    )
    sys.stdout.write("were looked up.\n")
else:
    sys.stdout.write("Known vulnerabilities were not looked up: their data cannot be reached.\n")
sys.exit(bool(found))
