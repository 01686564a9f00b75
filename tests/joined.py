"""The small consortium on several machines: a folder for each, and the keys that they need."""

import re
import shutil

from small import WORLD

from flows import joining

REMOTE = ("east", "north")


def write(folder, port=7443, more=""):
    """The small consortium, where east and north connect from other machines; returns its path."""
    told = re.sub(r"    reachable: .*\n", "", WORLD.format(state=folder / "state", more=more))
    for name in REMOTE:
        told = told.replace(f"- name: {name}\n", f"- name: {name}\n    certificate: {name}.crt\n")
    told += f"coordinator: {{address: '127.0.0.1:{port}', certificate: coordinator.crt}}\n"
    (folder / "small.yaml").write_text(told)
    return folder / "small.yaml"


def give_each_other(places):
    """Let each make its key, and have everybody's certificate."""
    for name, place in places.items():
        joining.make_identity(place.folder / "small.yaml", None if name == "coordinator" else name)
    for name, place in places.items():
        for other in places.values():
            if other is not place:
                shutil.copy(place.folder / f"{name}.crt", other.folder)
