# The Debian package: cpack -G DEB -B DIR, in a Release build folder. No other generator is set up.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME sipward)
set(CPACK_PACKAGE_VENDOR "The sipward authors")
set(CPACK_PACKAGE_CONTACT "The sipward authors <maintainers@sipward.example>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "keeps scanners and floods away from SIP servers")
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON) # files in /etc beside those in /usr
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
                                                WORLD_EXECUTE)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A daemon for SIP edge hosts (Kamailio, Asterisk, FreeSWITCH, SBCs). It reads
a copy of the SIP traffic with DPDK, judges every source by what it sends and
how it is answered, and keeps scanners, password guessers and floods, with
the prefixes they come from, blocked in nftables.

It is not started by its installation: first name the interface that faces
the internet in /etc/sipward/sipward.yaml.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_CURRENT_LIST_DIR}/debian/postinst ${CMAKE_CURRENT_LIST_DIR}/debian/prerm ${CMAKE_CURRENT_LIST_DIR}/debian/postrm
    ${CMAKE_CURRENT_LIST_DIR}/debian/conffiles)

# Libraries are found by what the program is linked to. DPDK's drivers are loaded by name, so that nobody finds them: the ring
# of the packet pools and the driver of kernel-owned interfaces are always needed, others by the ports that use them.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
file(GLOB dpdk_eal /usr/lib/*/librte_eal.so.*)
string(REGEX MATCH "librte_eal\\.so\\.([0-9]+)" dpdk_eal "${dpdk_eal}")
set(dpdk_abi ${CMAKE_MATCH_1})
set(CPACK_DEBIAN_PACKAGE_DEPENDS "procps, systemd, librte-mempool-ring${dpdk_abi}, librte-net-af-packet${dpdk_abi}")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS
    "logrotate, librte-net-af-xdp${dpdk_abi}, librte-net-tap${dpdk_abi}, librte-net-virtio${dpdk_abi}")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "nftables, prometheus, librte-meta-net")

# Debian's changelog tells of the package, ours of the program.
string(TIMESTAMP package_date "%a, %d %b %Y %H:%M:%S +0000" UTC)
set(package_docs ${PROJECT_BINARY_DIR}/systemd/doc)
file(CONFIGURE OUTPUT ${package_docs}/changelog.Debian CONTENT
"sipward (@PROJECT_VERSION@-@CPACK_DEBIAN_PACKAGE_RELEASE@) unstable; urgency=medium

  * Version @PROJECT_VERSION@; its changes are in changelog.gz.

 -- @CPACK_PACKAGE_CONTACT@  @package_date@
" @ONLY)
foreach(pair IN ITEMS "${PROJECT_SOURCE_DIR}/CHANGELOG.md;changelog" "${package_docs}/changelog.Debian;changelog.Debian")
  list(GET pair 0 from)
  list(GET pair 1 name)
  add_custom_command(OUTPUT ${package_docs}/${name}.gz DEPENDS ${from}
                     COMMAND gzip --best --no-name --stdout ${from} > ${package_docs}/${name}.gz VERBATIM)
  list(APPEND package_doc_files ${package_docs}/${name}.gz)
endforeach()
add_custom_target(package_docs ALL DEPENDS ${package_doc_files})
install(FILES ${package_doc_files} DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES systemd/debian/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/sipward/allow.d)
include(CPack)
