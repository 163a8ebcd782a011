/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The prefix that the library's names have, for those that this directory's headers declare: in
 * libshmbroker.a they stand beside a program's own, which else would be called in their place.
 */
#ifndef SHMBROKER_PREFIX_H
#define SHMBROKER_PREFIX_H

#define escape shmb_escape
#define fdlist_close shmb_fdlist_close
#define fdlist_steal_only shmb_fdlist_steal_only
#define fdlist_take shmb_fdlist_take
#define glob_match shmb_glob_match
#define name_check shmb_name_check
#define name_is_app shmb_name_is_app
#define name_strip shmb_name_strip
#define packet_receive shmb_packet_receive
#define packet_send shmb_packet_send

#endif
