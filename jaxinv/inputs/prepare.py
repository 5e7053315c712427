"""Downloads one TFDS dataset and prepares it as array_record: `python -P _prepare.py NAME DIR`.

A script of its own, because it alone needs TensorFlow, which would otherwise take accelerator
memory and stay loaded for the whole run. A failure is one line on stdout and exit status 1.
"""

import functools
import logging
import os
import sys
from typing import Any

_CONNECT_AND_READ_TIMEOUT_S = 15
_RETRIES = 1


def _fail_fast() -> None:
    """Shortens timeouts and retries: TFDS waits forever for a silent host and tries ten times."""
    import requests
    from tensorflow_datasets.core.download import downloader

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it would warn of each retry
    downloader.MAX_RETRIES = _RETRIES
    session: Any = requests.Session
    session.request = functools.partialmethod(session.request, timeout=_CONNECT_AND_READ_TIMEOUT_S)


def main() -> int:
    """Returns the exit status."""
    name, data_dir = sys.argv[1:]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow_datasets as tfds

        _fail_fast()
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # of any kind: the user reads one line
        lines = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {lines[0][:200]}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
