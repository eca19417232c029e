"""
Matchers and their selectors: exact topics, URL patterns and URI templates.
"""
