"""The task that turns IDX files into a prepared data set."""

from prefect import task

from dcgan.dataset import Manifest, prepare_dataset
from dcgan.idx_set import IdxSet
from tasks.settings import read_settings


@task(name="prepare")
def prepare(downloaded: IdxSet) -> Manifest:
    """Normalise a download into Parquet under the state folder, or find that it is there already.

    Raises:
        DataError: the download is not what it says.
    """
    return prepare_dataset(downloaded, read_settings().prepared / downloaded.digest)
