"""Many callers, one device: requests of many threads, put together and run as batches.

Begin with :class:`genslim.serving.session.Session`.
"""
