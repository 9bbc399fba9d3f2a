"""The client of Topwork: prune a pre-trained model to an exact budget.

from topwork import Client
client = Client()
job = client.jobs.submit(model="all-minilm-l6-v2", data="reviews.csv", budget="10%")
client.jobs.wait(job, progress=True)
client.jobs.download(job, "pruned")
"""

from topwork.client import AsyncClient, Client
from topwork.errors import ApiError, JobFailed, ServerAway, TopworkError

__all__ = ["ApiError", "AsyncClient", "Client", "JobFailed", "ServerAway", "TopworkError"]
