"""The words of the domain, as frozen values; imports nothing of hotpath but itself."""
