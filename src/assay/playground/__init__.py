"""The playground: a page on this machine where one image is attacked while one watches."""
