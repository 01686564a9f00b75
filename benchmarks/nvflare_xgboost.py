"""NVFlare's histogram XGBoost on rows in files; `boosting.py --nvflare PYTHON` runs it.

    PYTHON benchmarks/nvflare_xgboost.py FOLDER PARTICIPANTS TREES

PYTHON has nvflare, 'xgboost<3.4', tensorboard and tensorboardX (`pip install` them in an environment of their
own).  FOLDER holds site-1/train.csv, site-1/valid.csv, ..., the label in the first column.
"""

import sys
from pathlib import Path

from nvflare.app_opt.xgboost.histogram_based_v2.csv_data_loader import CSVDataLoader
from nvflare.app_opt.xgboost.recipes import XGBHorizontalRecipe
from nvflare.recipe import SimEnv, set_per_site_config

PARAMETERS = {
    "max_depth": 0,
    "max_leaves": 31,
    "grow_policy": "lossguide",
    "max_bin": 255,
    "eta": 0.1,
    "objective": "binary:logistic",
    "eval_metric": "auc",
    "tree_method": "hist",
    "nthread": 1,
}


def main(folder: str, participants: int, trees: int) -> None:
    sites = {f"site-{n + 1}": {"data_loader": CSVDataLoader(folder=folder)} for n in range(participants)}
    recipe = XGBHorizontalRecipe(
        name="histogram", min_clients=participants, num_rounds=trees, early_stopping_rounds=0,
        xgb_params=PARAMETERS,
    )  # fmt: skip
    set_per_site_config(recipe, sites)
    recipe.execute(SimEnv(clients=list(sites), workspace_root=str(Path(folder) / "workspace")))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
