"""
What a matcher selects: exact topics, URL patterns and URI templates.
"""
