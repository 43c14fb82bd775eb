"""The task that turns IDX files into a prepared dataset."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from dcgan.data.dataset import Dataset, prepare_dataset
from dcgan.data.idx import IdxSet
from dcgan.files import mark_used
from tasks.settings import Settings


@task(name="prepare", cache_policy=NO_CACHE)
def prepare(downloaded: IdxSet, settings: Settings) -> Dataset:
    """Normalise a download into Parquet under the state folder, unless it is there already.

    Raises:
        DataError: The download is not what it says.
    """
    folder = settings.prepared / downloaded.digest
    mark_used(folder)
    return prepare_dataset(downloaded, folder)
