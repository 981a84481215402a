"""From whatever people have to indexed images: tables and folders in, one `Annotations` out; pixels decoded in one place."""
