#ifndef BIV_H
#define BIV_H

/* Generated from src/capi by the build (cbindgen). Do not edit. */

#include <stddef.h>
#include <stdint.h>

/** The version of this header; biv_version() is the library's. */
#define BIV_VERSION "0.1.0"
#define BIV_VERSION_MAJOR 0
#define BIV_VERSION_MINOR 1
#define BIV_VERSION_PATCH 0


#endif  /* BIV_H */
