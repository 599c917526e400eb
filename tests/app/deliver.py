"""Deliver from a database to one receiver: ``python -m tests.app.deliver URL CERTIFICATE ADDRESS PORT LEASE``."""

import ssl
import sys
import time

from app.deliverer import Deliverer, Pace
from app.egress import Egress
from storage.records import Records

url, certificate, address, port, lease = sys.argv[1:]
egress = Egress(
    look_up=lambda *_: [(address, int(port))],
    is_allowed=lambda _: True,
    certificates=ssl.create_default_context(cafile=certificate),
)
with (
    Records.open(url) as records,
    Deliverer(records.webhooks.outbox, egress, Pace(poll=0.02, lease=float(lease))).at_work(),
):
    sys.stdout.write("delivering\n")
    sys.stdout.flush()
    time.sleep(600)
