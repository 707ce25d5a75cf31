"""The console and the API's pages: static files that the service carries along."""
