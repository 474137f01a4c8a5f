"""The settings of the Django project."""

import os
from pathlib import Path

BASE = Path(os.environ.get("PLACE", "."))
SECRET_KEY = "only for this example"
INSTALLED_APPS = ["devices"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

# Messages in files, so that the example needs no broker.
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": BASE / "messages",
    "data_folder_out": BASE / "messages",
    "control_folder": BASE / "control",
}
CELERY_RESULT_BACKEND = f"file://{BASE.resolve()}/results"

for folder in ("messages", "control", "results"):
    (BASE / folder).mkdir(exist_ok=True)
