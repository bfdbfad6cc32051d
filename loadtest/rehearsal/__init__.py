"""The rehearsal of a launch: a crowd of Locust users against real processes, judged afterwards.

`python -m loadtest.rehearsal presale --users 2000` starts a service of its own, sends the crowd, lets
everything settle, audits, and ends with a verdict. Three kinds of modules, kept apart on purpose:

* plain ones (`plan`, `shapes`, `diary`, `possession`, `meter`, `objectives`, `verdict`): what is planned and
  how it is judged, without a clock or a network;
* the crowd (`locustfile`, `desk`, `phone`, `visit`, `watching`, `people`): runs inside Locust's processes, on
  gevent, and is the only code of this project that imports Locust;
* the one who runs it (`run`, `service`, `resources`, `aftermath`, `report`): an ordinary asyncio program
  that talks to Locust and to the service's verbs as processes.

Importing Locust patches the standard library, so nothing that serves may import the second kind; an
import contract holds that. This package exports nothing: its door is its command line.
"""
