"""From whatever people have to indexed images: tables and folders in, `Annotations` out; one decoder of pixels."""
